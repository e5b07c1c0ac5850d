"""The kinds of links, one module each. A new one is a module here, and a word in :data:`Kind`."""

from ifagent.core.kinds.auto_tap import AutoTap
from ifagent.core.kinds.dummy import Dummy
from ifagent.core.kinds.existing import Existing
from ifagent.core.kinds.loopback import Loopback
from ifagent.core.kinds.unsupported import Unsupported
from ifagent.core.kinds.veth import Veth

__all__ = ["AutoTap", "Dummy", "Existing", "Kind", "Loopback", "Unsupported", "Veth"]

Kind = Veth | AutoTap | Loopback | Existing | Dummy | Unsupported
