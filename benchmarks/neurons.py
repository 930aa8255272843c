"""Integrated gradients of the 20 strongest neurons of a layer, against captum's one by one.

The network is Inception, the layer Conv2d_4a_3x3, the photograph a smooth drawing; both go by the
same points of the line. captum runs the whole network anew for each neuron, ours the part before
the layer once. The attributions have to be equal within 1e-5 of the largest of each neuron.
"""

import argparse
import sys

import captum.attr
import torch
from rounds import compare, conclude
from torch import Tensor, nn

from fundusray.config import Model
from fundusray.models import build_model, feature_layers
from fundusray.saliency import MapProblem
from fundusray.saliency.lesion_detection import LesionMethod, neurons_of
from fundusray.saliency.neuron_integrated_gradients import neuron_attributions
from fundusray.saliency.path_integral import Line

NETWORK, CLASSES = "inception_v3", 5
SIDE, STEPS, NEURONS, CHUNK = 128, 16, 20, 32
EQUAL = 1e-5


class Bench:
    """A network of random weights, a photograph, and the neurons that speak most for a class."""

    def __init__(self, side: int, steps: int, neurons: int) -> None:
        coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
        image = nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1)
        self.model = build_model(Model(name=NETWORK), CLASSES, 0).eval().requires_grad_(False)
        self.layers, self.line = feature_layers(NETWORK), Line(steps)
        first = torch.zeros(1, dtype=torch.int64)
        self.problem = MapProblem(self.model, image, first, first, self.layers, CHUNK)
        method = LesionMethod(self.layers["early"], neurons, self.line)
        self.neurons = neurons_of(self.problem, method)[0].places

    def ours(self) -> Tensor:
        """[K, 3, S, S]."""
        path = self.layers["early"]
        return neuron_attributions(self.problem, path, self.neurons, self.line)[0]

    def peer(self) -> Tensor:
        """The same of captum, neuron by neuron, its points in passes as large."""
        layer = self.model.get_submodule(self.layers["early"])
        attribution = captum.attr.NeuronIntegratedGradients(self.model, layer)
        parts = [
            attribution.attribute(
                self.problem.image, tuple(neuron), baselines=0.5, n_steps=self.line.steps,
                internal_batch_size=CHUNK,
            )
            for neuron in self.neurons[0].tolist()
        ]  # fmt: skip
        return torch.cat(parts).detach()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--neurons", type=int, default=NEURONS)
    given = parser.parse_args()
    bench = Bench(given.side, given.steps, given.neurons)
    theirs, ours = bench.peer(), bench.ours()
    largest = theirs.abs().amax(dim=(1, 2, 3))
    apart = ((ours - theirs).abs().amax(dim=(1, 2, 3)) / largest).max().item()
    print(f"{len(ours)} neurons, farthest apart {apart:.1e} of the largest", flush=True)
    if not apart <= EQUAL:
        print("FAILED: the attributions differ")
        return 1
    name = "neuron_integrated_gradients"
    ratio = compare(name, bench.peer, bench.ours, given.rounds, items=len(ours), unit="neurons")
    conclude({name: (ratio, 3)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
