"""The mini bundle that every test of the encoder runs on."""

from tests.support.mini_encoder import bundle as bundle
from tests.support.mini_encoder import model as model
