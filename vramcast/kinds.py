"""What memory is for: the kinds of which a prediction's allocated peak consists, and their colours.

The colours tell kinds apart for readers who see few colours, too (Paul Tol's "bright" scheme).
"""

COLORS = {
    "parameters": "#4477aa",
    "gradients": "#ee6677",
    "optimizer": "#ccbb44",
    "activations": "#228833",
    "inputs": "#66ccee",
    "temporaries": "#aa3377",
}
KINDS = tuple(COLORS)
