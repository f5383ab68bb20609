"""Who may say and hear what: decided by the certificate's name alone, with the same rules mosquitto is given.

fleet               reads and writes skerry/1/#
<tenant>/<device>   writes the channels of skerry/1/<tenant>/<device>/up/, reads skerry/1/<tenant>/<device>/down/#
any other name      may connect, and do nothing

A device writes to named channels and not to all that is below `up/`: a broker that keeps what devices retain would
otherwise keep as many messages as one of them can find names for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from skerry_contracts import topics

MAX_IDENTITY = 128
CHANNELS = frozenset(each.name for each in topics.CHANNELS.values() if each.direction is topics.Direction.UP)


@dataclasses.dataclass(frozen=True, slots=True)
class Rights:
    """Topics begin with one of these texts, or equal it without the last slash. Empty text: none at all.

    `channels`: where set, a topic to write to is the text and one of these names.
    """

    write: str
    read: str
    administrator: bool = False
    channels: frozenset[str] | None = None

    def may_write(self, topic: str) -> bool:
        """Say whether a message to `topic` is passed on."""
        if self.channels is not None:
            return topic.startswith(self.write) and topic[len(self.write) :] in self.channels
        return bool(self.write) and (topic.startswith(self.write) or topic == self.write[:-1])

    def may_read(self, topic: str) -> bool:
        """Say whether messages to `topic` are delivered, whatever was subscribed to."""
        return bool(self.read) and (topic.startswith(self.read) or topic == self.read[:-1])


def rights_of(identity: str, administrators: Collection[str]) -> Rights | None:
    """Return what a name may do, None if it may not even connect."""
    if not identity or len(identity) > MAX_IDENTITY or any(mark in identity for mark in "+#\0"):
        return None
    if identity in administrators:
        return Rights(f"{topics.ROOT}/", f"{topics.ROOT}/", administrator=True)
    if identity.count("/") == 1 and not identity.startswith("/") and not identity.endswith("/"):
        return Rights(f"{topics.ROOT}/{identity}/up/", f"{topics.ROOT}/{identity}/down/", channels=CHANNELS)
    return Rights("", "")
