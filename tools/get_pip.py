"""Stands where ansible-test looks for its pip installer, and brings pip from the interpreter's own ensurepip.

ansible-test downloads that script from a server of its own, which a closed network does not let through; the pip it asks
for then comes from the package mirror, like everything else.
"""

import subprocess
import sys

# In a process of its own: ensurepip switches pip's configuration off, mirror and certificates included.
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *wanted]))
