"""Student's t, for intervals of means of few values."""

FEW = {1: 12.7062, 2: 4.3027, 3: 3.1824}  # any table
NORMAL = 1.959964


def quantile(freedom: int) -> float:
    """The 97.5 % quantile, from which an interval has 95 %.

    From four degrees of freedom on by Cornish and Fisher's expansion about the normal quantile, within 0.01
    (Abramowitz & Stegun 1964, 26.7.5).
    """
    if freedom in FEW:
        return FEW[freedom]
    z = NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
