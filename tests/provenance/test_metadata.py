"""IPTC fields are found again in files of any format, and odd files do no harm."""

from __future__ import annotations

import av
import pytest
from PIL import Image

from eamm_jax.provenance import metadata

FIELDS = {
    "DigitalSourceType": metadata.SOURCE_TYPES + metadata.GENERATED,
    "AISystemUsed": "eamm_jax",
    "AISystemVersionUsed": "1.2",
    "identifier": "c0ffee42",
}


def packet() -> str:
    return metadata.packet(metadata.GENERATED, "1.2", "c0ffee42")


def test_png_and_mp4_carry_them(files):
    for name, source_type in (("marked.mp4", "GENERATED"), ("marked.png", "COMPOSITE")):
        fields = metadata.read(files[name])
        assert fields["DigitalSourceType"].endswith("/" + getattr(metadata, source_type))
        assert fields["AISystemUsed"] == "eamm_jax"
        assert fields["identifier"] == "c0ffee42"
    assert not metadata.read(files["plain.mp4"])
    assert not metadata.read(files["plain.png"])


def test_pillow_finds_the_packet(files):
    with Image.open(files["marked.png"]) as image:
        assert "trainedAlgorithmicMedia" not in image.info["XML:com.adobe.xmp"]
        assert "compositeWithTrainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]


def test_jpeg_is_read(tmp_path):
    path = tmp_path / "x.jpg"
    Image.new("RGB", (8, 8)).save(path, xmp=packet().encode())
    assert metadata.read(path) == FIELDS


def test_elements_are_read_as_attributes_are(tmp_path):
    path = tmp_path / "x.xmp"
    path.write_text(
        "<x:xmpmeta><rdf:RDF><Iptc4xmpExt:AISystemUsed> other &amp; more"
        "</Iptc4xmpExt:AISystemUsed></rdf:RDF></x:xmpmeta>"
    )
    assert metadata.read(path) == {"AISystemUsed": "other &amp; more"}


def test_a_marked_video_still_plays(files, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(files["plain.mp4"].read_bytes())
    metadata.append_to_mp4(path, packet())
    assert metadata.read(path) == FIELDS
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<x:xmpmeta",
        b"<x:xmpmeta></x:xmpmeta>" * 100,
        b"<x:xmpmeta" + b" " * 200_000 + b"</x:xmpmeta>",
        b"<x:xmpmeta>\xff\xfe Iptc4xmpExt:AISystemUsed=</x:xmpmeta>",
    ],
)
def test_damaged_packets_are_none(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert not metadata.read(path)
