// The Live tab: offers the microphone to the studio, shows what comes back.
(() => {
  const JITTER_BUFFER_MS = 100;
  const GATHERING_MS = 3000; // without a network it never ends
  const NO_NETWORK = "No network is up, and browsers then do not connect even to this computer: " +
    "connect to any network, or start Chromium with --allow-loopback-in-peer-connection.";
  const find = (name) => document.getElementById(`live-${name}`);
  let connection = null;
  let channel = null;
  let microphone = null;
  let portrait = null;

  const say = (words, wrong = false) => {
    find("said").textContent = words;
    find("said").className = wrong ? "wrong" : "";
    find("said").setAttribute("role", wrong ? "alert" : "status");
  };

  const wishes = () => {
    const words = { strength: Number(find("strength").value), head: Number(find("head").value) };
    words.blink = find("blink").checked;
    if (find("gaze-x")) words.gaze = [Number(find("gaze-x").value), Number(find("gaze-y").value)];
    if (find("emotion").options.length > 1) words.emotion = find("emotion").value;
    return words;
  };

  const stop = (words = "Stopped.", wrong = false) => {
    if (channel?.readyState === "open") channel.send(JSON.stringify({ end: true }));
    microphone?.getTracks().forEach((track) => track.stop());
    connection?.close();
    connection = channel = microphone = null;
    find("video").srcObject = null;
    find("start").hidden = false;
    find("stop").hidden = find("mute").hidden = true;
    say(words, wrong);
  };

  const start = async () => {
    find("start").hidden = true;
    say("Connecting ...");
    try {
      microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      return stop(`There is no microphone: ${error.message}`, true);
    }
    const mine = (connection = new RTCPeerConnection());
    channel = mine.createDataChannel("wishes");
    channel.onopen = () => channel.send(JSON.stringify(wishes()));
    channel.onmessage = (event) => say(JSON.parse(event.data).problem, true);
    mine.addTrack(microphone.getAudioTracks()[0], microphone);
    mine.addTransceiver("video", { direction: "recvonly" });
    mine.ontrack = (event) => {
      // The same for both, so that neither starts behind the other.
      event.receiver.jitterBufferTarget = JITTER_BUFFER_MS;
      find("video").srcObject = event.streams[0];
    };
    mine.onconnectionstatechange = () => {
      if (mine !== connection) return;
      if (mine.connectionState === "connected") say("Speak: the face follows within half a second.");
      if (["failed", "disconnected", "closed"].includes(mine.connectionState)) {
        stop("The connection has ended.", true);
      }
    };
    await mine.setLocalDescription();
    await new Promise((resolve) => {
      const complete = () => mine.iceGatheringState === "complete" && resolve();
      mine.addEventListener("icegatheringstatechange", complete);
      complete();
      setTimeout(resolve, GATHERING_MS);
    });
    if (mine !== connection) return;
    if (!mine.localDescription.sdp.includes("a=candidate")) return stop(NO_NETWORK, true);
    let answer;
    try {
      answer = await fetch("live/offer", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...wishes(), sdp: mine.localDescription.sdp, portrait }),
      });
      const words = await answer.json();
      if (mine !== connection) return;
      if (!answer.ok) return stop(words.detail, true);
      await mine.setRemoteDescription(words);
    } catch (error) {
      return stop(`The studio does not answer: ${error.message}`, true);
    }
    find("stop").hidden = find("mute").hidden = false;
  };

  document.addEventListener("click", (event) => {
    if (event.target.id === "live-start") start();
    if (event.target.id === "live-stop") stop();
    if (event.target.id === "live-mute") {
      const track = microphone.getAudioTracks()[0];
      track.enabled = !track.enabled;
      event.target.textContent = track.enabled ? "Mute" : "Unmute";
    }
  });
  document.addEventListener("input", (event) => {
    if (event.target.id === "live-portrait") {
      const [file] = event.target.files;
      const reader = new FileReader();
      reader.onload = () => {
        portrait = reader.result.split(",")[1];
        find("video").poster = reader.result;
      };
      if (file) reader.readAsDataURL(file);
    } else if (event.target.closest?.("#live-controls") && channel?.readyState === "open") {
      channel.send(JSON.stringify(wishes()));
    }
  });
  window.addEventListener("pagehide", () => connection && stop());
})();
