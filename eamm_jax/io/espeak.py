"""One utterance by eSpeak NG, in a process of its own (run as a script by `io.speech`).

The engine is a C library with global state: it cannot be entered twice at once, what it said
before changes what it says next, and the noise in breathy voices is seeded by the clock. A fresh
process with a fixed seed for every utterance makes it a pure function, safe in threads, at 30 ms
apiece. For that this file imports nothing beyond a few modules of the standard library.

Standard input: one JSON object (`library`, `data`, `text`, `voice`, `rate`, `pitch`,
`pitch_range`). Standard output: one line of JSON (`sample_rate`; `phonemes`, pairs of IPA symbol
and first sample; `words`, the number of phonemes before each; or `unknown_voice`), then the
samples, 16-bit in native byte order.
"""

import ctypes
import json
import os
import sys

# From espeak-ng/speak_lib.h, version 1.52.
_OUTPUT_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL
_PHONEME_EVENTS, _PHONEME_IPA = 1, 2  # espeakINITIALIZE_*
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7

_SEED = 1


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def _main() -> None:
    request = json.load(sys.stdin.buffer)
    engine = ctypes.CDLL(request["library"])
    sample_rate = engine.espeak_Initialize(
        _OUTPUT_RETRIEVAL,
        0,
        os.fsencode(request["data"]),
        _PHONEME_EVENTS | _PHONEME_IPA,
    )
    sound: list[bytes] = []
    phonemes: list[tuple[str, int]] = []
    words: list[int] = []

    def receive(samples, count, events) -> int:  # type: ignore[no-untyped-def]
        if samples and count > 0:
            sound.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                symbol = events[i].id.string.decode("utf-8", errors="ignore")
                phonemes.append((symbol, events[i].sample))
            elif events[i].type == _EVENT_WORD:
                words.append(len(phonemes))
            i += 1
        return 0  # go on

    callback = _Callback(receive)
    engine.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
    engine.espeak_SetSynthCallback(callback)
    if engine.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        print(json.dumps({"unknown_voice": request["voice"]}))
        return
    engine.espeak_SetParameter(_RATE, request["rate"], 0)
    engine.espeak_SetParameter(_PITCH, request["pitch"], 0)
    engine.espeak_SetParameter(_RANGE, request["pitch_range"], 0)
    text = request["text"].encode()
    engine.espeak_Synth(text, len(text) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
    engine.espeak_Synchronize()
    header = json.dumps({"sample_rate": sample_rate, "phonemes": phonemes, "words": words})
    sys.stdout.buffer.write(header.encode() + b"\n" + b"".join(sound))


if __name__ == "__main__":
    _main()
