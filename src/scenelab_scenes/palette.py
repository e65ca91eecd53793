"""Palettes of surface colors under white light, estimated from photographs and shared by several kinds."""

Colors = tuple[tuple[float, float, float], ...]


def _percent(text: str) -> Colors:
    """Parse colors separated by commas, each as red, green and blue in percent."""
    parts = [[int(part) / 100 for part in color.split()] for color in text.split(",")]
    return tuple((red, green, blue) for red, green, blue in parts)


GREENS = _percent("24 34 17, 32 42 20, 20 28 17, 42 42 22")
ROCKS = _percent("42 40 40, 48 42 36, 36 37 40, 50 40 33")
SANDS = _percent("86 70 48, 80 60 38, 88 78 60, 78 52 34")
SEAS = _percent("10 30 42, 12 38 45, 22 32 38, 10 22 36")
WOODS = _percent("46 31 19, 62 46 30, 30 20 14, 74 62 46, 85 83 79")
WALLS = _percent("86 83 76, 78 80 80, 70 76 72, 82 74 64, 66 70 78, 88 87 85")
CLOTHS = _percent("90 89 86, 30 38 56, 62 26 26, 50 56 46, 72 62 48, 45 40 52")
SHIRTS = _percent("60 18 16, 18 26 42, 75 74 70, 15 15 16, 75 60 20")
CARS = _percent("75 10 10, 85 85 86, 10 11 13, 15 25 50, 50 52 55")
HULLS = _percent("93 93 92, 15 22 40, 62 16 14, 20 42 40")
LEAVES = _percent("26 38 14, 18 28 12, 52 40 14, 34 44 18, 16 24 16")
FLOORS = _percent("55 52 48, 40 42 45, 58 44 32, 66 66 64, 45 25 22")
FACADES = _percent("50 55 62, 62 58 52, 38 42 48, 56 42 34, 70 70 68, 30 40 46")
SPINES = _percent("55 16 14, 16 24 42, 20 36 24, 62 50 30, 80 76 66, 35 22 14, 16 16 18, 55 36 18, 40 20 36")
