"""Drop files on the window below a point, as a file manager under X11 does (XDND, version 5).

    python3 xdnd_drop.py X Y FILE [FILE …]

in pixels of the screen. Needs python-xlib and a display; writes what the target said as JSON:
``{"accepted": bool, "finished": bool}``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from Xlib import X, Xatom, display
from Xlib.ext import xtest
from Xlib.protocol import event

_STEPS = 5  # places that the pointer visits on its way; some targets wait for the second
_LIMIT = 20.0  # seconds; software rasterisers answer slowly


class Source:
    """The application that the files come from."""

    def __init__(self, files: list[Path]) -> None:
        self.display = display.Display()
        self.screen = self.display.screen()
        self.window = self.screen.root.create_window(-10, -10, 1, 1, 0, X.CopyFromParent)
        self.uris = "".join(f"{path.resolve().as_uri()}\r\n" for path in files).encode()
        self.selection, self.kind = self.atom("XdndSelection"), self.atom("text/uri-list")
        self.accepted = self.finished = False

    def atom(self, name: str) -> int:
        return self.display.intern_atom(name)

    def target(self, x: int, y: int):
        """The window below the point that takes drops.

        Raises:
            LookupError: there is none.
        """
        seen = self.screen.root
        aware = self.atom("XdndAware")
        while seen != X.NONE:
            if seen.get_full_property(aware, X.AnyPropertyType) is not None:
                return seen
            seen = self.screen.root.translate_coords(seen, 0, 0) and self._child(seen, x, y)
        raise LookupError(f"no window at {x}, {y} takes drops")

    def _child(self, window, x: int, y: int):
        place = window.translate_coords(self.screen.root, x, y)
        return place.child

    def send(self, target, name: str, *data: int) -> None:
        """A client message of ours; ``data`` is what follows our window's number."""
        numbers = [self.window.id, *data]
        numbers += [0] * (5 - len(numbers))
        message = event.ClientMessage(
            window=target, client_type=self.atom(name), data=(32, numbers)
        )
        target.send_event(message)
        self.display.flush()

    def listen(self, until, seconds: float) -> None:
        """Answer the target till ``until()``."""
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            if not self.display.pending_events():
                time.sleep(0.01)
                continue
            told = self.display.next_event()
            if told.type == X.SelectionRequest:
                self._hand_over(told)
            elif told.type == X.ClientMessage and told.client_type == self.atom("XdndStatus"):
                self.accepted = bool(told.data[1][1] & 1)
            elif told.type == X.ClientMessage and told.client_type == self.atom("XdndFinished"):
                self.finished = True

    def _hand_over(self, asked) -> None:
        known = asked.target == self.kind
        place = asked.property or asked.target
        if known:
            asked.requestor.change_property(place, asked.target, 8, self.uris)
        elif asked.target == self.atom("TARGETS"):
            asked.requestor.change_property(place, Xatom.ATOM, 32, [self.kind])
            known = True
        answer = event.SelectionNotify(
            time=asked.time,
            requestor=asked.requestor,
            selection=asked.selection,
            target=asked.target,
            property=place if known else X.NONE,
        )
        asked.requestor.send_event(answer)
        self.display.flush()

    def drop(self, x: int, y: int) -> None:
        """Drag in from a little beside, wait till the target agrees, and let go."""
        target = self.target(x, y)
        self.window.set_selection_owner(self.selection, X.CurrentTime)
        copy = self.atom("XdndActionCopy")
        self.send(target, "XdndEnter", 5 << 24, self.kind)
        for step in range(_STEPS):
            at = x - 4 * (_STEPS - 1 - step)
            xtest.fake_input(self.display, X.MotionNotify, x=at, y=y)
            self.send(target, "XdndPosition", 0, at << 16 | y, X.CurrentTime, copy)
            self.listen(lambda: False, 0.15)
        self.listen(lambda: self.accepted, _LIMIT)
        self.send(target, "XdndDrop", 0, X.CurrentTime)
        self.listen(lambda: self.finished, _LIMIT)


def main() -> None:
    source = Source([Path(name) for name in sys.argv[3:]])
    source.drop(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(json.dumps({"accepted": source.accepted, "finished": source.finished}))


if __name__ == "__main__":
    main()
