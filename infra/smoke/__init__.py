"""``make smoke``: a stack of its own in a real account, tried whole, measured, and deleted again.

What no schema, emulator or document can tell: that the first deployment succeeds, and the second; that images
are built and jobs start on both architectures and on Spot; that Lambda imports the layers. The same script
runs against a stack that stands, the embedded AWS's included, and says what it could not check there.
"""
