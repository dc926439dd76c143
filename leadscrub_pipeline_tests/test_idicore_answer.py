import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.simulators.answers import search_result
from leadscrub_pipeline.simulators.contacts import Match, contact_of
from leadscrub_pipeline.vendors.idicore_answer import Contact, WrongShapeError, kept_part, read_answer

LEAD = Person("Rosalind", "Fennimore", "12 North Main Street Apt 4", "New York", "NY", "10001")
NAME = [{"first": "ROSALIND", "last": "FENNIMORE"}]
ADDRESS = [{"street": "12 N Main St #4", "zip": 10001}]


def read(*persons: dict, lead: Person = LEAD, rank_best="lowest") -> Contact:
    return read_answer({"result": list(persons)}, lead, rank_best=rank_best)


def person(*phones: object, **sections) -> dict:
    return {"pid": "1", "name": NAME, "address": ADDRESS, "phone": list(phones)} | sections


def phone(number: object, rank: object = None, **values) -> dict:
    return {"number": number} | ({} if rank is None else {"meta": {"rank": rank}}) | values


def digits(contact: Contact) -> list[str]:
    return [each.digits for each in contact.phones]


# --- which person --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "found_by"),
    [
        ([{"first": "Rosalind", "last": "Fennimore"}], "name"),
        ([{"firstName": "rosalind", "lastName": "FENNIMORE"}], "name"),
        ([{"data": "ROSALIND FENNIMORE"}], "name"),
        ([{"data": "Fennimore, Rosalind"}], "name"),
        (["Rosalind Fennimore"], "name"),
        ([{"first": "Ada", "last": "Other"}, {"first": "Rosalind", "last": "Fennimore"}], "name"),
        ([{"data": "ROSALIND Q FENNIMORE"}], "similar_name"),
        ([{"first": "R", "last": "Fennimore"}], "similar_name"),
        ([{"first": "Rosalind", "last": "Fennimore", "suffix": "Jr"}], "similar_name"),
        ([], "vendor"),
        (None, "vendor"),
        (7.5, "vendor"),
    ],
)
def test_a_person_is_taken_when_the_name_agrees_or_was_not_given(names, found_by):
    contact = read(person(phone("2125550123"), name=names, address=[]))
    assert (contact.outcome, contact.matched_by) == ("hit", found_by)


@pytest.mark.parametrize(
    "names",
    [
        [{"first": "Harold", "last": "Fennimore"}],
        [{"first": "Rosalind", "last": "Ashworth"}],
        [{"data": "ROSE FENNIMORE"}],
        [{"data": "x"}],
        [{"last": "Fennimore"}],
        "Marion Ashworth",
    ],
)
def test_somebody_elses_contacts_are_a_miss_even_at_the_same_address(names):
    contact = read(person(phone("2125550123"), name=names))
    assert (contact.outcome, contact.reason, contact.phones) == ("miss", "name_differs", ())


def test_father_and_son_are_kept_apart():
    son = LEAD._replace(last_name="Fennimore Jr")
    father = person(phone("2125550101"), pid="1", name=[{"data": "ROSALIND FENNIMORE SR"}])
    junior = person(phone("2125550102"), pid="2", name=[{"data": "ROSALIND FENNIMORE JR"}])
    plain = person(phone("2125550103"), pid="3")
    assert digits(read(father, junior, plain, lead=son)) == ["2125550102"]
    assert digits(read(father, junior, plain)) == ["2125550103"]
    assert read(father, lead=son).reason == "name_differs"


def test_of_several_namesakes_the_one_at_the_address_is_taken():
    elsewhere = [{"street": "9 Harbor Rd", "zip": "10001"}]
    other_unit = [{"data": "12 N MAIN ST APT 5, NEW YORK, NY 10001"}]
    other_town = [{"street": "12 N Main St #4", "zip": "90210"}]
    contact = read(
        person(phone("2125550101"), pid="1", address=elsewhere),
        person(phone("2125550102"), pid="2", address=other_unit),
        person(phone("2125550103"), pid="3"),
        person(phone("2125550104"), pid="4", address=other_town),
    )
    assert (digits(contact), contact.matched_by) == (["2125550103"], "name+address")


def test_an_initial_at_the_address_is_nearer_than_a_namesake_elsewhere():
    initial = person(phone("2125550101"), pid="1", name=[{"data": "R FENNIMORE"}])
    namesake = person(phone("2125550102"), pid="2", address=[{"street": "9 Harbor Rd"}])
    assert digits(read(namesake, initial)) == ["2125550101"]


def test_a_tie_is_a_miss_and_the_same_person_listed_twice_is_none():
    first, second = person(phone("2125550101"), pid="1"), person(phone("2125550102"), pid="2")
    assert (read(first, second).outcome, read(first, second).reason) == ("miss", "tie")
    assert digits(read(first, second | {"pid": 1})) == ["2125550101", "2125550102"]
    nameless = [{"phone": [phone("2125550101")]}, {"phone": [phone("2125550102")]}]
    assert read(*nameless).reason == "tie"


# --- contacts ------------------------------------------------------------------------------


def test_three_phones_are_kept_connected_first_then_by_rank_then_in_the_vendors_order():
    numbers = [
        phone("2125550101", 1, disconnected=True),
        phone("2125550102", 3),
        phone("2125550103"),
        phone("2125550104", "2"),
        phone("2125550105", 3),
    ]
    assert digits(read(person(*numbers))) == ["2125550104", "2125550102", "2125550105"]
    assert digits(read(person(*numbers), rank_best="highest")) == ["2125550102", "2125550105", "2125550104"]
    assert digits(read(person(*numbers[:1]))) == ["2125550101"]


@pytest.mark.parametrize("number", ["(212) 555-0123", 2125550123, "212-555-0123", "+1 212 555 0123", "1-212-555-0123"])
def test_a_number_is_read_however_it_is_spelled(number):
    assert digits(read(person(phone(number)))) == ["2125550123"]


def test_one_number_listed_twice_is_one_phone_and_disconnected_if_either_entry_says_so():
    contact = read(
        person(phone("2125550101", 5), phone(2125550101, 2, disconnected=True, type="Mobile"), phone("2125550102", 3))
    )
    first, second = contact.phones
    assert (first.digits, second.digits) == ("2125550102", "2125550101")
    assert (second.disconnected, second.rank, second.type) == (True, 2, "Mobile")


@pytest.mark.parametrize("mark", [True, "true", "Y", 1, "1", "since 2024", {"at": "2024"}, ["x"]])
def test_a_mark_that_cannot_be_read_counts_as_set(mark):
    contact = read(person(phone("2125550101", disconnected=mark), isDead=mark))
    assert contact.phones[0].disconnected
    assert contact.is_dead


@pytest.mark.parametrize("mark", [False, "false", "No", 0, "0", None, "", " ", {}, []])
def test_a_mark_that_says_no_is_not_set(mark):
    contact = read(person(phone("2125550101", disconnected=mark), isDead=mark))
    assert not contact.phones[0].disconnected
    assert not contact.is_dead


def test_what_is_no_phone_is_kept_apart_with_its_reason():
    contact = read(person(phone("555-0123"), phone("8005550199"), phone(True), phone(["212"]), phone("2125550123")))
    assert digits(contact) == ["2125550123"]
    assert [text for text, _ in contact.unusable_phones] == ["555-0123", "8005550199", "True", "list"]
    assert all(reason for _, reason in contact.unusable_phones)


def test_a_relatives_phone_is_never_the_leads():
    relative = {"relationship": [{"phone": [phone("2125550199")]}], "relatives": [{"phone": "2125550198"}]}
    contact = read(person(phone("2125550101"), **relative))
    assert digits(contact) == ["2125550101"]


def test_emails_are_found_under_either_key_without_duplicates_and_junk():
    emails = [
        {"data": "b@example.com", "meta": {"rank": 2}},
        {"address": "a@example.com", "meta": {"rank": "1"}},
        {"data": "A@EXAMPLE.COM"},
        {"data": "no address"},
        {"data": "two@example.com,three@example.com"},
        {"data": 7},
        {"data": " c@example.com "},
        {"data": "d@example.com"},
    ]
    assert read(person(email=emails)).emails == ("a@example.com", "b@example.com", "c@example.com")


def test_a_person_without_any_contact_is_a_miss_that_says_so():
    contact = read(person(isDead=True))
    assert (contact.outcome, contact.reason, contact.is_dead) == ("miss", "no_contacts", True)
    assert read().reason == "no_match"


# --- any body ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        None, [], "x", 1, {}, {"result": None}, {"result": {}}, {"result": "none"}, {"result": [None]},
        {"result": [[{}]]}, {"error": {}},
    ],
)  # fmt: skip
def test_a_body_that_is_no_answer_is_named_by_its_shape_only(body):
    for read_it in (kept_part, lambda each: read_answer(each, LEAD, rank_best="lowest")):
        with pytest.raises(WrongShapeError) as caught:
            read_it(body)
        assert "x" not in str(caught.value).replace("idiCORE", "")


def test_only_what_was_asked_for_is_kept():
    body = {"result": [person(phone("2125550101"), relationship=[1], ssn="x", isDead=False)], "cost": 1}
    kept = kept_part(body)
    assert kept == {"result": [person(phone("2125550101"), isDead=False)]}
    assert read_answer(kept, LEAD, rank_best="lowest") == read_answer(body, LEAD, rank_best="lowest")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["2125550123", "Rosalind", "Fennimore", "12 North Main Street Apt 4", "x@example.com"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["number", "type", "disconnected", "meta", "rank", "data", "address", "first", "last", "street", "zip"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
PERSONS = st.dictionaries(st.sampled_from(["pid", "name", "phone", "email", "address", "isDead"]), ANYTHING, max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(PERSONS, max_size=4))
def test_no_value_of_any_type_anywhere_makes_reading_fail(persons):
    contact = read(*persons)
    assert len(contact.phones) <= 3
    assert len(contact.emails) <= 3
    assert (contact.outcome == "miss") == (contact.reason is not None)
    assert all(len(each) == 10 and each.isdigit() for each in digits(contact))


def test_the_simulators_answers_are_read_as_its_contacts_say():
    for number in range(1000):
        _compare_with_simulator(number)


def _compare_with_simulator(number: int) -> None:
    fields = ("name", "phone", "email", "address", "isDead")
    lead = LEAD._replace(address=f"{number} Quarry Ave")
    truth = contact_of(lead, seed=1)
    contact = read(*search_result(lead, truth, fields), lead=lead)
    assert tuple(digits(contact)) == truth.best_phones()
    assert (contact.outcome == "hit") == (truth.is_hit and bool(truth.phones or truth.emails))
    if truth.match is Match.TIE:
        assert contact.reason == "tie"
    if truth.is_hit:
        assert contact.is_dead == truth.is_dead
        assert contact.emails == truth.emails[:3]
