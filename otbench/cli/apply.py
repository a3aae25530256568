"""`otbench apply`: a kept map, on points in a file, or on a picture."""

from __future__ import annotations

import argparse
import warnings
from functools import partial

from otbench.cli.common import AddCommand, out_file, plugin_files, warn
from otbench.cli.console import say
from otbench.errors import OtbenchWarning, UsageError
from otbench.files import shown, typed_path

MOST_SEED = 2**63 - 1


def add_commands(add: AddCommand) -> None:
    """Announce this command and its options."""
    parser = add("apply", apply, "apply a kept map to points in a file")
    parser.add_argument(
        "map",
        metavar="RECORD|FILE",
        help="a kept map (.otmap), the record (.json) that it is kept beside, or the id of a run in results/local",
    )
    parser.add_argument(
        "--input",
        metavar="X.npy",
        required=True,
        help="the points, shape (n, *shape), of any size; for maps between colours a picture, too (a.jpg)",
    )
    parser.add_argument("--output", metavar="TX.npy", required=True, help="where their images go (b.png)")
    parser.add_argument("--backward", action="store_true", help="map points of the target back")
    parser.add_argument("--labels", metavar="L.npy", help="the class of each point, for maps that go class by class")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of maps that draw noise (default: 0)")
    parser.add_argument("--device", metavar="NAME", default="cpu", help="cpu (default), cuda, cuda:N or auto")


def apply(options: argparse.Namespace) -> int:
    """Read the map, apply it a chunk at a time, write the images as a whole."""
    file = typed_path(options.map, "RECORD|FILE")
    source, result = typed_path(options.input, "--input"), out_file(options.output, "--output")
    label = None if options.labels is None else typed_path(options.labels, "--labels")
    if not 0 <= options.seed <= MOST_SEED:
        raise UsageError(f"--seed {options.seed}: must be a whole number from 0 to 2^63 - 1")
    from otbench.api.given import device_of  # imports torch, which wrong words need not wait for
    from otbench.api.maps import map_file
    from otbench.api.progress import Line
    from otbench.api.stream import apply_file, apply_to_picture
    from otbench.data.pictures import ENDINGS
    from otbench.plugins.kept import load_map

    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", OtbenchWarning)
        file = map_file(file)
        transport = load_map(file, plugins=plugin_files(options), device=device_of(options.device))
    warn([str(note.message) for note in noted])
    picture = source.suffix.lower() in ENDINGS
    if picture and label is not None:
        raise UsageError("--labels: the colours of a picture have no classes")
    what = "colours" if picture else "points"
    with Line(None) as line:
        work = apply_to_picture if picture else partial(apply_file, label=label)
        count = work(
            transport,
            source,
            result,
            backward=options.backward,
            seed=options.seed,
            also_read=[file],
            listen=lambda done, total: line.show(f"{done} of {total} {what}"),
        )
    say(f"{count} colours moved, picture in {shown(result)}" if picture else f"{count} images in {shown(result)}")
    return 0
