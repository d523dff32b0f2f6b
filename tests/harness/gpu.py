"""make gpu: the library that runs the encoder on an NVIDIA card. It builds on a machine without one.

    gpu.py [--out FILE]        with PG_CONFIG set it is installed into that Postgres, beside the extension

The compiler and the libraries to link against come from the Python package index, unpacked into the cache; a driver is
not needed, since a stub stands in for its libcuda while linking. CUDA_COMPUTE_CAP names the oldest card that it is for
(default 80: Ampere; newer cards compile what they need at first use). Where it runs, the library wants the driver and
CUDA 13's libcublas, libcurand, libcudart and libnvrtc.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

import build
import place
import wheel

LIBRARY = "pg_persona_cuda.so"
PACKAGES = ("nvidia-cuda-nvcc==13.2.78", "nvidia-nvvm==13.2.78", "nvidia-cuda-crt==13.2.78", "nvidia-cuda-runtime==13.2.86",
            "nvidia-cuda-nvrtc==13.2.86", "nvidia-cuda-cccl==13.3.5.0.6", "nvidia-cublas==13.4.1.3", "nvidia-curand==10.4.5.25")


def toolkit() -> Path:
    """The unpacked compiler and libraries: CUDA_HOME for the build, with what to link against in `link`."""

    def make(part: Path) -> None:
        place.say("downloading the CUDA compiler and libraries (some 600 MB, once)")
        wheel.pip("install", "--quiet", "--no-deps", "--only-binary=:all:", "--target", str(part), *PACKAGES)
        home = part / "nvidia" / "cu13"
        for program in (*home.glob("bin/*"), *home.glob("nvvm/bin/*")):
            program.chmod(0o755)
        link = part / "link"
        link.mkdir()
        for library in home.glob("lib/*.so.*"):
            (link / (library.name.split(".so.")[0] + ".so")).symlink_to(Path("..") / library.relative_to(part))
        # candle looks for the libraries in lib64
        if not (home / "lib64").exists():
            (home / "lib64").symlink_to("lib")
        stub = ["cc", "-shared", "-x", "c", "/dev/null", "-Wl,-soname,libcuda.so.1", "-o", str(link / "libcuda.so")]
        if subprocess.run(stub).returncode != 0:
            raise place.Failure("a C compiler is needed (cc)")

    return place.once(place.cache() / "cuda-13.2", make)


def cuda(out: Path) -> Path:
    """The library for cards. It has a target folder of its own: its dependencies are built otherwise."""
    root = toolkit()
    home = root / "nvidia" / "cu13"
    settings = {
        "CUDA_HOME": str(home), "CUDA_PATH": str(home), "CUDA_ROOT": str(home),
        "CUDA_COMPUTE_CAP": os.environ.get("CUDA_COMPUTE_CAP", "80"),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "RUSTFLAGS": f"-L native={root / 'link'}",
        "LIBRARY_PATH": str(root / "link"),
    }
    target = place.cache() / "target-cuda"
    place.say("building the library for GPUs (ten minutes or more at first)")
    with place.lock("persona-cuda"):
        # the stub has no symbol, so the linker would drop it, and the library would not ask for the driver's
        done = subprocess.run(["cargo", "rustc", "--release", "--quiet", "--lib", "--no-default-features", "--features", "cuda", "--",
                               "-C", "link-arg=-Wl,--no-as-needed", "-C", "link-arg=-lcuda"],
                              cwd=place.CHECKOUT, env=dict(build.environment(), CARGO_TARGET_DIR=str(target), **settings))
        if done.returncode != 0:
            raise place.Failure("the library for GPUs did not build")
        part = out.with_name(f".{out.name}.{os.getpid()}")
        shutil.copyfile(target / "release" / "libpg_persona.so", part)
        part.chmod(0o755)
        part.replace(out)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    library = cuda(options.out or place.cache() / LIBRARY)
    if not (named := os.environ.get("PG_CONFIG")):
        print(f"{library}\nTo install it: cp {library} \"$(pg_config --pkglibdir)/\"")
        return 0
    folder = build.folder_of(Path(shutil.which(named) or named), "pkglibdir")
    if not os.access(folder, os.W_OK):
        raise place.Failure(f"{folder} is not writable. The library is built; to install it:\n  sudo install -m 755 {library} {folder}/")
    shutil.copyfile(library, folder / LIBRARY)
    (folder / LIBRARY).chmod(0o755)
    print(folder / LIBRARY)
    return 0


if __name__ == "__main__":
    place.main(main)
