"""Secure sums, of which the server learns only the total: Bonawitz et al., CCS 2017, doi 10.1145/3133956.3133982.

The variant against a malicious server (figure 4 with the consistency check), without any transport: clients and the
aggregator exchange messages that are bytes. Needs the extra `privacy`.
"""
