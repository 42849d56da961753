"""What the owner of the stack does beside deploying: protecting it, deleting it, handing on layers' names.

``python -m stack protect``, ``delete`` and ``release NAME``, with this folder on the path; make calls them.
"""
