"""The names that a caller chooses from, as literal types, so that a type checker reports a misspelt one."""

from typing import Literal, TypeAlias

HiddenName: TypeAlias = Literal[
    "relu", "tanh", "sigmoid", "leaky_relu", "identity", "gelu", "gelu_tanh", "silu", "softplus", "elu", "selu"
]
OutputName: TypeAlias = Literal["sigmoid", "softmax", "identity", "exp"]
SchemeName: TypeAlias = Literal["he", "xavier", "lecun", "small", "zeros"]
DTypeName: TypeAlias = Literal["float32", "float64"]
