"""The only place that touches media files and codecs: untrusted input in, arrays out.

Readers report a bad file as a `UserError` of one line. Writers write to a temporary name beside the
output and rename it when it is complete.
"""
