"""Plug-ins: the face in frameworks for voice agents. They are never imported by anything else."""
