"""HTTP connections of all clients: the key that they send, and the proxy that they go through.

api_keys       keys without stray white space; a key that cannot be sent is refused, and never printed
proxies        which proxy the environment sets for a URL; none for loopback addresses
http_clients   httpx clients that follow both
http_failures  which HTTP failures are worth retrying, and when
"""
