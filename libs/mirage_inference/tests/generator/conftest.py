"""A generator whose networks know the picture that they are asked for."""

from tests.support.oracle_generator import make_model as make_model
from tests.support.oracle_generator import tokenizer_file as tokenizer_file
from tests.support.oracle_generator import wanted as wanted
