"""Path prefixes that distinguish an API request from a page."""

# Requests with an API key: admission, load shedding, errors and reads follow the API's rules.
API_PREFIXES = ("/v1/", "/chains/")
# What needs neither session nor form.
NO_PAGE_PREFIXES = (*API_PREFIXES, "/health/", "/metrics")
COMPLETIONS = "/v1/chat/completions"
CHAINS = "/chains/"
JOBS = "/v1/jobs"
# Their bodies may hold images, sounds and files.
MEDIA_PATHS = (COMPLETIONS,)
