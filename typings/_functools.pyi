# typeshed has no stub of this C module: functools itself takes longer to import than all of scopedbump.

from functools import partial as partial
