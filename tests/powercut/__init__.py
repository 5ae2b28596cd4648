"""Power cuts in a virtual machine: what was acknowledged must survive them. Run by hand: docs/powercut.md."""
