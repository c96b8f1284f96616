"""The numbers that callers can rely on. Beyond them a request gets a catalogue error, never a silent change."""

TEXT_CHARS = 2_000
CAPTION_CHARS = 20_000
COMMENT_CHARS = 1_000
K_DEFAULT = 10
K_MAX = 100
SIMILAR_K_MAX = K_MAX - 1
TERMS_MAX = 16
EXAMPLES_MAX = 8
IDS_MAX = 1_000
FACETS_MAX = 64
FACET_VALUES_MAX = 64
IMAGE_BYTES = 20 * 2**20
# Vectors are never longer; this bounds what one list can cost before the retriever sees its dimension.
VECTOR_COMPONENTS = 16_384
UPLOAD_RECORDS_MAX = 64

# Of pixels with more than 8 bits.
WINDOWS_MAX = 16
NAME_CHARS = 64
UNIT_CHARS = 16

# Of label maps.
REGIONS_MAX = 255
REGION_NAME_CHARS = 100
REGIONS_BYTES = 512 * 2**10

# Of descriptions.
CAPTIONS_DEFAULT = 3
CAPTIONS_MAX = 10
MAX_TOKENS_MAX = 512
TEMPERATURE_MAX = 2.0
STOP_MAX = 4
STOP_CHARS_MAX = 40

# Of generation jobs: the widest for any model. A model's own range is narrower and is in its bundle.
SEED_MAX = 2**63 - 1
STEPS_MAX = 50
SIDE_MIN = 64
SIDE_MAX = 768
SIDE_MULTIPLE = 32
IMAGES_MAX = 4
JOBS_MAX = 100
DEADLINE_MAX_S = 86_400.0
