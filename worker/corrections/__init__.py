"""History put right: late channels, prices, retention."""
