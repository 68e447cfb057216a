"""The only place that touches files, codecs and faces: untrusted input in, arrays out.

Every reader here turns what is wrong with a file into a `UserError` of one line, and every
writer makes its output beside the final name and renames it when it is complete.
"""
