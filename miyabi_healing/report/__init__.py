"""What a run came to, as documents and texts.

Imports `model`, `support` and `state`; changes nothing.
One more form: a function from the report's document to text.
"""
