"""What classifiers that see a whole MNIST image at once score on each part, to tell how hard the parts are.

    SABSIM_DATA=DIR python benchmarks/whole_images.py

Needs scikit-learn (extra `digits`). A logistic regression and a perceptron with 32 hidden units, few passes, seed 0.
"""

from __future__ import annotations

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from sabsim.tasks import Pixels

PARTS = ("train", "validation", "test")


def main() -> None:
    """Print the accuracy of each classifier on each part."""
    source = Pixels(images="mnist").source
    images = {part: source.pixels[part].reshape(len(source.pixels[part]), -1) / 255 for part in PARTS}
    classifiers = {
        "linear": SGDClassifier(loss="log_loss", max_iter=8, random_state=0),
        "32 hidden units": MLPClassifier((32,), max_iter=4, random_state=0),
    }
    warnings.simplefilter("ignore", ConvergenceWarning)  # they are to be stopped early
    for name, classifier in classifiers.items():
        classifier.fit(images["train"], source.labels["train"])
        scores = [f"{part} {classifier.score(images[part], source.labels[part]):.4f}" for part in PARTS]
        print(f"{name}: {', '.join(scores)}")


if __name__ == "__main__":
    main()
