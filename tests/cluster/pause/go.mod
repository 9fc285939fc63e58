// What each pod's sandbox runs. `make cluster-bin` builds it outside the checkout.
module affinage.local/tests/pause

go 1.24.0
