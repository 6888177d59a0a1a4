"""What the tests of many hosts need: Redis in all its forms, hosts, a proxy that breaks what lies
between them, clients that come back, and a checker of what every client has seen.
"""
