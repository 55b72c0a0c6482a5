#!/usr/bin/env python3
"""Build the Blender extension: ``python build_addon.py [--out dist] [--platforms linux-x64 …]``.

The zip carries the ``head360`` wheel of this checkout plus pyzmq and msgspec for every platform
and for the Pythons of Blender 4.2 to 5.2 (3.11, 3.13) and of Linux distributions (3.14). Blender
reads the supported Pythons from the wheels' *file names* and ignores ``abi3`` as soon as one name
has a minor version; pyzmq's abi3 wheel is therefore stored again under each version's own tag.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

logger = logging.getLogger("build_addon")

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "blender_addon"
REQUIREMENTS = ("pyzmq==27.3.0", "msgspec==0.22.0")
PYTHONS = ("311", "313", "314")
# Blender's platform name -> wheel platforms that pip may take, best first.
PLATFORMS: dict[str, tuple[str, ...]] = {
    "linux-x64": (
        *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 16, -1)),
        "manylinux2014_x86_64",
    ),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_12_0_arm64", "macosx_12_0_universal2"),
    "macos-x64": ("macosx_12_0_x86_64", "macosx_12_0_universal2"),
}
NOT_PACKED = ("__pycache__", "ruff.toml", "demo_script.py")
STAMP = (2026, 1, 1, 0, 0, 0)  # of every file in the zip: the same sources give the same bytes


class BuildError(Exception):
    """The build cannot go on; the text says what to do."""


def run(command: list[str], problem: str) -> str:
    """Run a command; on failure raise BuildError with ``problem`` and its last line of output."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BuildError(f"{problem} ({lines[-1].strip() if lines else 'no message'})")
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The head360 wheel of this checkout."""
    # From a copy: setuptools would leave build/ and egg-info beside other people's work.
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in ("pyproject.toml", "README.md"):
            if (ROOT / name).is_file():
                shutil.copy2(ROOT / name, copy / name)
            else:
                (copy / name).write_text("# Head360 Studio\n")
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
        shutil.copytree(ROOT / "backend", copy / "backend", ignore=ignored)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(copy)]
        if _has_setuptools():
            command.insert(-1, "--no-build-isolation")
        run(command, "The head360 wheel cannot be built: install setuptools 77 or go online.")
    return next(folder.glob("head360-*.whl"))


def _has_setuptools() -> bool:
    """Whether this Python can build the wheel without downloading a build environment."""
    try:
        from setuptools import __version__ as version
    except ImportError:
        return False
    return int(version.split(".")[0]) >= 77


def fetch(requirement: str, platform: str, python: str, cache: Path) -> Path:
    """One wheel for one platform and Python, from the cache or the package index."""
    folder = cache / f"{requirement.replace('==', '-')}-{platform}-{python}"
    if not (found := sorted(folder.glob("*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        for abi in (f"cp{python}", "abi3", "none"):
            command += ["--abi", abi]
        for tag in PLATFORMS[platform]:
            command += ["--platform", tag]
        run(
            [*command, "-d", str(folder), requirement],
            f"Cannot download {requirement} for {platform}, Python {python}: go online once, "
            "or limit the build with --platforms.",
        )
        found = sorted(folder.glob("*.whl"))
    return found[0]


def retag(wheel: Path, python: str, folder: Path) -> Path:
    """Copy ``wheel`` into ``folder``; an abi3 wheel gets the tag of this one Python version.

    The code inside is the same: abi3 promises exactly that it runs there.
    """
    name, version, tag, abi, platform = wheel.stem.split("-")
    if abi != "abi3":
        target = folder / wheel.name
        shutil.copyfile(wheel, target)
        return target
    target = folder / f"{name}-{version}-cp{python}-cp{python}-{platform}.whl"
    with zipfile.ZipFile(wheel) as archive:
        content = {item.filename: archive.read(item) for item in archive.infolist()}
    info = next(path for path in content if path.endswith(".dist-info/WHEEL"))
    record = f"{info.rpartition('/')[0]}/RECORD"
    old, new = f"Tag: {tag}-{abi}-", f"Tag: cp{python}-cp{python}-"
    content[info] = content[info].decode().replace(old, new).encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content[info]).digest()).rstrip(b"=").decode()
    rows = list(csv.reader(io.StringIO(content[record].decode())))
    rows = [
        [info, f"sha256={digest}", str(len(content[info]))] if row[0] == info else row
        for row in rows
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    content[record] = text.getvalue().encode()
    write_zip(target, content)
    return target


def write_zip(target: Path, content: dict[str, bytes]) -> None:
    """A zip with sorted names and fixed times: the same content gives the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            item = zipfile.ZipInfo(name, STAMP)
            item.compress_type = zipfile.ZIP_DEFLATED
            item.external_attr = 0o644 << 16
            archive.writestr(item, content[name])


def manifest_text(wheels: list[str], platforms: list[str]) -> str:
    """The manifest with its wheels and platforms filled in."""
    text = (SOURCE / "blender_manifest.toml").read_text(encoding="utf-8")
    listed = "".join(f'  "./wheels/{name}",\n' for name in wheels)
    named = ", ".join(f'"{platform}"' for platform in platforms)
    filled = text.replace("wheels = []", f"platforms = [{named}]\n\nwheels = [\n{listed}]")
    if filled == text:
        raise BuildError("blender_manifest.toml has no line `wheels = []` to fill: restore it.")
    return filled


def blender_ext() -> Path | None:
    """Blender's own packaging tool inside an installed bpy module, or None."""
    places = [Path(path) for path in sys.path if path]
    places += sorted((ROOT / ".venv-blender").glob("lib/python*/site-packages"))
    places += [ROOT / ".venv-blender" / "Lib" / "site-packages"]
    for place in places:
        found = sorted(place.glob("bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
        if found:
            return found[-1]
    return None


def build(out: Path, platforms: list[str], cache: Path) -> dict[str, object]:
    """Make the zip; nothing is left in ``out`` when something fails."""
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch) / "wheels"
        wheels.mkdir()
        build_wheel(wheels)
        for platform in platforms:
            for requirement in REQUIREMENTS:
                for python in PYTHONS:
                    retag(fetch(requirement, platform, python, cache), python, wheels)
        content = {f"wheels/{path.name}": path.read_bytes() for path in wheels.iterdir()}
        for folder, prefix in ((SOURCE, ""), (ROOT / "shaders", "shaders/")):
            for path in sorted(folder.rglob("*")):
                inside = path.relative_to(folder)
                hidden = any(part in NOT_PACKED or part[0] == "." for part in inside.parts)
                if path.is_file() and not hidden and path.suffix != ".pyc":
                    content[f"{prefix}{inside.as_posix()}"] = path.read_bytes()
        names = sorted(path.name for path in wheels.iterdir())
        text = manifest_text(names, platforms)
        content["blender_manifest.toml"] = text.encode()
        version = tomllib.loads(text)["version"]

        draft = Path(scratch) / f"head360-{version}.zip"
        write_zip(draft, content)
        tool = blender_ext()
        if tool is not None:
            run([sys.executable, str(tool), "validate", str(draft)], "The zip is not valid.")
        target = out / draft.name
        try:
            out.mkdir(parents=True, exist_ok=True)
            partial = out / f".{draft.name}.tmp"
            shutil.copyfile(draft, partial)
            os.replace(partial, target)
        except OSError as error:
            raise BuildError(
                f"Cannot write into {out} ({error.strerror}): choose another --out."
            ) from error
        if tool is not None:
            run(
                [sys.executable, str(tool), "server-generate", "--repo-dir", str(out)],
                "The repository index cannot be made.",
            )
    return {
        "zip": str(target),
        "bytes": target.stat().st_size,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "wheels": names,
        "platforms": platforms,
        "validated": tool is not None,
        "index": str(out / "index.json") if tool is not None else None,
    }


def main() -> int:
    """Command line; the exit code is 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the zip")
    parser.add_argument(
        "--platforms", nargs="+", choices=sorted(PLATFORMS), default=list(PLATFORMS)
    )
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "build" / "addon-wheels", help="downloaded wheels"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        made = build(options.out.resolve(), list(options.platforms), options.cache)
    except BuildError as error:
        logger.error("%s", error)
        return 2
    checked = "validated by Blender's own tool" if made["validated"] else "not validated: no bpy"
    if options.json:
        sys.stdout.write(json.dumps(made) + "\n")
    else:
        logger.info("%s (%.1f MB, %s)", made["zip"], made["bytes"] / 1e6, checked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
