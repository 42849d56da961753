"""The embedded AWS: the real template, state machine, handlers and builder on one machine, with no account.

A moto server on 127.0.0.1 answers the API calls; what runs on it is ours, unchanged: Lambda handlers in warm
worker processes, Batch jobs as subprocesses of the builder. ``gaps`` holds every replacement inside moto,
each with its why.
"""
