"""Which price holds and what a request costs (pure), and the dataset of prices."""
