"""What moto does for each request of any service, and would be done once."""

from functools import cache

from moto.core import errors, responses, utils
from moto.iam import models as iam_models
from moto.moto_server import werkzeug_app

from local.gaps import Replacements
from local.settings import ACCOUNT_ID


def install(replacements: Replacements) -> None:
    """Replace it."""
    put = replacements.put
    # moto reads a service's errors out of its model for each answer that is one, as S3's often are.
    put(errors, "ErrorLookupFactory", cache(errors.ErrorLookupFactory))
    # moto looks through all that a service's class has to find a method by its name.
    put(responses, "method_names_from_class", cache(utils.method_names_from_class))
    # moto looks through the keys of all accounts in all partitions; there is one account, and the gate knows
    # its keys.
    put(iam_models, "get_account_id_from", lambda _key: ACCOUNT_ID)
    # moto lets pages of other hosts read its answers; the gate lets them ask nothing.
    put(werkzeug_app, "DISABLE_GLOBAL_CORS", True)
