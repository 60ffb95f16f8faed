"""What ``nextword COMMAND`` does: one module a family of commands, each of which adds itself to the parser."""
