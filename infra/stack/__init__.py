"""What the owner of the stack does beside deploying: keeping it from deletion by mistake, and deleting it.

``python -m stack protect`` and ``python -m stack delete``, with this folder on the path; make calls them.
"""
