from prefect_platform_cli.new_flow.templates import fan_out


def test_no_item_is_found_twice() -> None:
    items = fan_out.find_items.fn()

    # Equal items would share one stored result.
    assert items
    assert len(set(items)) == len(items)


def test_a_failed_item_is_tried_again_after_longer_and_longer_pauses() -> None:
    assert fan_out.process.retries == 3
    assert fan_out.process.retry_delay_seconds == [10, 20, 40]


def test_what_a_retry_of_the_run_must_not_repeat_is_stored() -> None:
    assert fan_out.find_items.persist_result
    assert fan_out.process.persist_result
