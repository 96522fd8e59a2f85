"""What is taken where nobody says how to train; light, since the command line names it before anything is loaded."""

__all__ = ["USUAL_LOSS"]

# Without the doubted answers it gains more than DPO from 200 answers on, and from fewer no less was seen (the studies
# `flips` and `defaults`). Where a style has to be learned that the model doesn't know, it loses more of the prompts.
USUAL_LOSS = "mapo"
