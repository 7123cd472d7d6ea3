"""The mutations still apply to core as it is, and the runner tells a broken equation from a whole one."""

import pytest
from mutations import MUTATIONS, Mutation, mutated, outcome


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_applies(mutation) -> None:
    compile(mutated(mutation), mutation.file, "exec")


def test_their_names_differ() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 25


@pytest.mark.parametrize("name", ["sigmoid': wrong sign", "dA_prev: no transpose", "adam: v not corrected"])
def test_a_broken_equation_is_caught(name) -> None:
    assert outcome(next(m for m in MUTATIONS if m.name == name)) == "caught"


def test_what_breaks_nothing_survives_and_what_applies_nowhere_is_told() -> None:
    assert (
        outcome(Mutation("none", "updates", "return theta - alpha * g\n", "return -alpha * g + theta\n")) == "SURVIVED"
    )
    assert outcome(Mutation("nowhere", "updates", "theta - beta * g", "theta")).startswith("NOT APPLIED")
