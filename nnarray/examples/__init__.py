"""The course, drawn: short programs, one picture each.

`python -m nnarray.examples.planar_data` draws `planar_data.png` into the current folder, `python -m nnarray.examples
FOLDER` all of them. They need matplotlib (the extra `plot`), and `digits`, `batch_normalization` and `random_search`
scikit-learn (the extra `sklearn`). Each is a page of code to copy from: its function `draw` has the sizes as arguments.

- `digits`: logistic regression on images, and what its weights look like
- `planar_data`: a flower that no line divides, and four hidden units that do
- `symmetry`: why weights must not start at zero
- `vanishing_gradients`: how depth and initialisation decide what the first layer learns
- `batch_normalization`: ten layers that hardly learn without it
- `regularization`: overfitting, and what L2 and dropout make of it
- `mini_batches`: mini-batches against the full batch
- `optimizers`: gradient descent, momentum, RMSprop and Adam on one cost
- `random_search`: alpha and 1 - beta, searched for in powers of ten
- `gradient_checking`: a wrong sign, found by central differences
"""

NAMES = (
    "digits",
    "planar_data",
    "symmetry",
    "vanishing_gradients",
    "batch_normalization",
    "regularization",
    "mini_batches",
    "optimizers",
    "random_search",
    "gradient_checking",
)
"""The modules, one for each picture."""
