"""Does the memory of an evaluation stay flat as the data set grows? `python benchmarks/memory.py`, some minutes on two cores.

Two child processes evaluate a generated WebDataset folder (160-pixel JPEG pictures) of 500 and of 5,000 samples: clean and
PGD-2, streamed from disk. What is compared is each process's peak resident memory. All pictures of the larger set in memory
would be 384 MB more, and as floats 1.5 GB. The size of ImageNet: `--samples 500 50000 --classes 1000`, ten times as long.
"""

import argparse
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

SHARD, PIXELS = 500, 160


def write_folder(folder, samples, shard=SHARD, pixels=PIXELS, group="birds", classes=0):
    """A folder in the clip-benchmark layout with `samples` enlarged OpenMoji pictures, the same ones in each shard.

    Further class names, which have no picture, make up `classes`.
    """
    import mmcoa
    from mmcoa.prompts import clean_name

    test, shard = Path(folder) / "test", min(shard, samples)
    if samples % shard:
        raise SystemExit(f"{samples} samples do not fill shards of {shard}; take a multiple")
    test.mkdir(parents=True)
    dataset = mmcoa.load_dataset(f"openmoji/{group}")
    names = list(map(clean_name, dataset.class_names))
    names += [f"thing number {i}" for i in range(classes - len(names))]
    (Path(folder) / "classnames.txt").write_text("\n".join(names) + "\n")
    (Path(folder) / "zeroshot_classification_templates.txt").write_text("This is a photo of a {c}\n")
    with tarfile.open(test / "0.tar", "w") as archive:
        for i in range(shard):
            picture, label = dataset.images[i % len(dataset)], int(dataset.labels[i % len(dataset)])
            picture = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((pixels, pixels), Image.Resampling.BICUBIC)
            data = io.BytesIO()
            picture.save(data, "JPEG")
            add_member(archive, f"{i:05d}.jpg", data.getvalue())
            add_member(archive, f"{i:05d}.cls", str(label).encode())
    for i in range(1, samples // shard):
        shutil.copyfile(test / "0.tar", test / f"{i}.tar")
    (test / "nshards.txt").write_text(f"{samples // shard}\n")


def add_member(archive, name, content):
    """One file of `content` (bytes) at the end of an open tar archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def peak_bytes():
    """Peak resident memory of this process.

    From /proc where there is one: `getrusage` of a child counts from its parent's size at the start.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def child(folder, device):
    """Evaluate a folder in this process; prints JSON with the peak and the accuracies."""
    import mmcoa
    from mmcoa.runtime import tune_allocator

    tune_allocator()
    dataset = mmcoa.load_dataset(f"wds:{folder}", stream=True)
    model = mmcoa.load_model("openmoji-clip", device)
    rows = mmcoa.evaluate(model, dataset, ["clean", "pgd"], mmcoa.ThreatModel(epsilon="2/255", steps=2))
    found = {"peak": peak_bytes(), "n": len(dataset), "classes": len(dataset.prompts)}
    print(json.dumps(found | {"accuracy": [row["accuracy"] for row in rows]}))


def measure(samples, device="cpu", shard=SHARD, pixels=PIXELS, classes=0):
    """{"peak": bytes, "n": samples, "classes", "accuracy": [clean, robust]} of one evaluation in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "wds_generated"
        write_folder(folder, samples, shard, pixels, classes=classes)
        command = [sys.executable, str(Path(__file__).resolve()), "--child", str(folder), "--device", device]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode:
            raise RuntimeError(f"the evaluation of {samples} samples failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs=2, default=[500, 5000], metavar=("SMALL", "LARGE"))
    parser.add_argument("--classes", type=int, default=0, help="class names, pictures of 21 of them; default: no further names")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--child", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return child(options.child, options.device)
    small, large = (measure(samples, options.device, classes=options.classes)["peak"] for samples in options.samples)
    print(
        f"peak resident memory: {small / 1e6:.0f} MB for {options.samples[0]} samples, "
        f"{large / 1e6:.0f} MB for {options.samples[1]}"
    )
    print(f"ratio {large / small:.3f}")


if __name__ == "__main__":
    main()
