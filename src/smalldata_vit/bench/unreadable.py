"""Whether views can be made where no tensor can be read: torch's `meta` device has shapes and no values."""

from contextlib import nullcontext
from unittest.mock import Mock, patch

import torch

from smalldata_vit.contracts import Pictures, Views
from smalldata_vit.data.passes import on

META = torch.device("meta")


def needs_values(views: Views, pictures: Pictures, heights: torch.Tensor, widths: torch.Tensor) -> list[str]:
    """What stops the making of views, in the form that an accelerator runs, when the host can read nothing.

    Empty if nothing does: then the host never waits for the device. On a CPU the views read which rows they change.
    """
    drawn = views.draw(0, 0, heights, widths).to(META)
    given = on(META, pictures)
    try:
        # There is no autocast on this device, and nothing to keep out of it.
        with patch.object(torch, "autocast", Mock(return_value=nullcontext())):
            views(given, drawn)
    except (NotImplementedError, RuntimeError) as error:
        return [str(error).splitlines()[0]]
    return []
