"""What an export would not hold is refused before training."""

import pytest

from codiemb.config.preflight import preflight
from codiemb.config.typed import typed_train
from codiemb.errors import UserError


def test_an_instruction_for_a_fixed_prompt_is_refused_and_one_for_a_template_is_not(composed):
    preflight(typed_train(composed("export.query_instruction=Find")))
    preflight(typed_train(composed('model.prompt.query="query: "', 'export.query_instruction=""')))
    fixed = composed('model.prompt.query="query: "', "export.query_instruction=Find")
    with pytest.raises(UserError, match="would go nowhere: the prompt of this model's queries is 'query: '"):
        preflight(typed_train(fixed))
