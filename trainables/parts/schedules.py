"""Step sizes that follow the share of a budget that is behind."""


def linear_decay(share: float, start: float) -> float:
    """1 until the share `start` of the budget, from then on linearly to 0 at its end.

    Source: Lecouat et al., arXiv:1812.07832, 1000 of 1200 epochs; improved-gan's code, 800 of 1200.
    """
    return 1.0 if share <= start else (1 - share) / (1 - start)
