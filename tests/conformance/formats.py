"""Files of disk images, sound and dangerous, with the manifest of them that Tempest reads (`images_manifest_file`)."""

import json
import subprocess
from pathlib import Path

_SOUND = {  # what qemu-img calls a format, and what the Image API does
    "raw": "raw",
    "qcow2": "qcow2",
    "vmdk": "vmdk",
    "vdi": "vdi",
    "vpc": "vhd",
    "vhdx": "vhdx",
}


def manifest(work: Path) -> Path:
    """Make the images in `work`. Returns the path of their manifest, which is YAML as all JSON is."""
    made = [_image(work, f"{name}-sound", qemu, name) for qemu, name in _SOUND.items()]
    secret = work / "secret"
    secret.write_bytes(bytes(1 << 20))
    made += [
        _image(work, "qcow2-backing-file", "qcow2", "qcow2", "-b", str(secret), "-F", "raw", usable=False),
        _image(work, "qcow2-data-file", "qcow2", "qcow2", "-o", f"data_file={work / 'data'}", usable=False),
        _image(work, "vmdk-external-extent", "vmdk", "vmdk", "-o", "subformat=monolithicFlat", usable=False),
    ]
    file = work / "images.yaml"
    file.write_text(json.dumps({"images": made}))
    return file


def _image(
    work: Path, name: str, qemu: str, disk_format: str, *more: str, usable: bool = True
) -> dict[str, object]:
    file = f"{name}.{disk_format}"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", qemu, *more, str(work / file), "1M"],
        check=True,
        capture_output=True,
    )
    return {"name": name, "format": disk_format, "filename": file, "usable": usable}
