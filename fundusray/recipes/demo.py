"""Our own recipes: a first run without any data, and the base of searches for balance."""

from fundusray.config import Data, Model, Recipe, Train, Tune
from fundusray.recipes.rows import recipe


@recipe("demo")
def demo() -> Recipe:
    """ResNet-18 on 400 drawn photographs: minutes on two CPU cores, kappa above 0.5."""
    return Recipe(
        data=Data(source="synthetic", num_images=400, size=96),
        model=Model(name="resnet18"),
        train=Train(
            epochs=8, batch=16, lr=1e-3, optimizer="adamw", weight_decay=0.01, schedule="onecycle"
        ),
        tune=Tune(trials=6, grace=3),
    )


@recipe("balancing")
def balancing() -> Recipe:
    """ResNet-18 at 160 pixels, split by patient: what jobs/tune_balancing.py varies by default."""
    return Recipe(
        data=Data(size=160, split="patient"),
        model=Model(name="resnet18"),
        train=Train(
            epochs=12, batch=32, lr=5e-4, optimizer="adamw", weight_decay=0.01, schedule="onecycle"
        ),
    )
