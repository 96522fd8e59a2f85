"""What is taken where nobody says how to train; light, since the command line names it before anything is loaded."""

__all__ = ["USUAL_LOSS"]

USUAL_LOSS = "dpo"
