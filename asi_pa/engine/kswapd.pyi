"""kswapd: woken by requests that found too little and by boosts.

For other compiled modules only.
"""
