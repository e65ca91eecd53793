"""Errors and notes about unused files and classes without images."""

from collections.abc import Mapping

from scenelab.data.image_files import describe_unused
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError, cut


def require_classes(listing: Listing, skipped: Mapping[int, str]) -> None:
    """Raise a LabError if all images of a class are skipped; `skipped` has the reasons, by index into the listing."""
    left = {label for row, label in enumerate(listing.labels) if row not in skipped}
    for row, reason in skipped.items():
        if (label := listing.labels[row]) not in left:
            name, count = listing.categories[label], listing.labels.count(label)
            raise LabError(
                f"class {name!r} in {listing.split} of {listing.root} would be lost: none of its {count} images can be "
                f"read, first {reason}"
            )


def describe_left_out(listing: Listing) -> str:
    """Return a text on unused files and on classes without images in a split; empty if there are none."""
    labels = set(listing.labels)
    absent = [name for label, name in enumerate(listing.categories) if label not in labels]
    notes = [describe_unused(listing.unused)] if listing.unused else []
    notes += [f"no images of {len(absent)} of {len(listing.categories)} classes: {cut(absent)}"] if absent else []
    return "; ".join(notes)
