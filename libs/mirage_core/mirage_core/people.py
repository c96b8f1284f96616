"""Recognises names of columns, labels and keys that are about a person, by what their words mean.

Readers of datasets and the retriever leave such fields out, so that no value of theirs is stored, served or logged.
Names come in English, Spanish and German, as DICOM keywords and tags, in any case, with prefixes, suffixes and
separators, or run together (`Patient Name`, `pt_name`, `patientname`, `(0010,0010)`, `fecha de nacimiento`,
`Versichertennummer`).

Three rules, on the words of a name: - some words are about a person wherever they occur (`patient`, `MRN`, `Nachname`);
- others are, if all words next to them only say more of the same (`hospital`, `hospital name`, but not `hospital
acquired pneumonia`; `age`, `age group`, but not `bone age`); - some pairs are (`study` with `id`, `station` with
`name`).
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

V = TypeVar("V")

_NAME_CHARS = 200
_RUN_CHARS = 60


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALWAYS = _words(
    """
    patient paciente pat pid ptid mrn mrns dob ssn nhs nhc upi npi svnr kvnr ehr emr hadm surname forename lastname
    firstname fname lname mname nachname vorname familienname geburtsname rufname apellido birthdate birthday
    birthplace birthyear geburtsdatum geburtstag geburtsort geburtsjahr nacimiento email phone telephone telefon
    telefono celular fax insurance insurer insured insuree versicherung versicherer versicherter versicherte
    krankenkasse krankenversicherung aseguradora asegurado medicare medicaid passport pasaporte reisepass
    personalausweis curp cpf cuil cuit sozialversicherung hausarzt zuweiser einweiser einsender kostentrager
    kostentraeger guardian spouse username login signature unterschrift gps gebdat fnac zuname geboren yob
    wohnadresse gebjahr
    """
)
_OFTEN = _words(
    """
    birth geburt physician doctor dr arzt arztin aerztin medico medica facharzt facharztin oberarzt chefarzt
    radiologist radiologe radiologin radiologo radiologa surgeon chirurg chirurgin cirujano cirujana pathologist
    pathologe patologo cardiologist cardiologo operator operador operadora technician technologist tecnico tecnica
    techniker technikerin mtra mtr nurse enfermera enfermero consultant referrer uberweiser ueberweiser befunder
    untersucher clinician practitioner gp institution institucion centro hospital hosp krankenhaus spital klinik
    klinikum clinic clinica facility ward abteilung department departamento praxis consultorio sanatorio address
    adresse anschrift direccion domicilio street strasse calle zip zipcode plz postcode postal postleitzahl city
    ciudad stadt wohnort residence residencia tel mail correo kontakt kontaktdaten kasse seguro poliza afiliado
    afiliacion policy payer dni nie nif cedula rut rfc nin cip sip nuhsa cipa ahv ausweis expediente aktenzeichen
    akte fallnummer subject participant person proband probandin sujeto participante kin mother father madre padre
    mutter vater age edad alter sex sexo gender genero geschlecht race raza ethnicity ethnic etnia ethnie religion
    religious nationality nacionalidad staatsangehorigkeit occupation ocupacion profesion beruf marital
    familienstand survival deceased death latitude longitude accession accnum accessionno encounter requisition
    anforderungsnummer auftragsnummer serial seriennummer initials iniciales initialen date datum fecha datetime
    timestamp uhrzeit hora behandler facultativo localidad provincia movil requestor requester attending institut
    einrichtung dra dod addr insur institutional mutua subj phys handynummer male female mannlich weiblich masculino
    femenino
    """
)
_NEEDS_HEAD = _words(
    """
    pt user usuario client cliente customer member donor volunteer individual owner contact contacto content creator
    reviewer annotator reader observer verifier documento evaluator recorder transcriber interpreter approver
    responsible center centre site station person device scanner machine mobile mobil movil acc chi kv sv vers egk
    tech md provider sub ris handy ins health
    """
)
"""Persons and places that only a word such as `name` or `id` makes certain."""

_HEADS = _words("name nombre namen id uid number no nr num numero nummer code codigo key")
_IDS = _HEADS - _words("name nombre namen")
_VISITS = _words(
    """
    study exam examination estudio examen untersuchung visit visita encounter episode episodio admission ingreso
    aufnahme stay fall order orden auftrag anforderung requested performed scheduled placer filler
    """
)
_OBJECTS = _words(
    """
    study series sop instance frame reference concatenation device irradiation event procedure dimension specimen
    """
)
_MORE = _words(
    """
    the a of for and or on at in to by with from as is was been has de del la el los las y e o en por para con der
    die das des dem den von vom und oder am im zum zur bei fur full complete completo completa first last middle
    given family maiden legal preferred other second primary secondary main current previous former local alternate
    alternative short long primero segundo primer zuweisender ref req verifying origen procedencia hospitalario
    country place referring referred performing requesting attending reading ordering consulting interpreting
    responsible treating admitting scheduled performed requested assigned behandelnder behandelnde uberweisender
    ueberweisender remitente solicitante tratante derivante record records role type group band range category class
    level total overall year years yr yrs month months mo day days hour hours jahr jahre jahren monat monate tage
    tag ano anos mes meses dia dias start end begin started ended created creation entered issued study series
    acquisition content exam examination scan procedure instance step visit admission discharge order issue
    reporting interpretation verification observation protocol frame image contrast injection calibration last next
    untersuchung aufnahme entlassung befund estudio examen adquisicion ingreso alta informe prueba identifier
    identifiers identification identity identidad issuer authority sequence macro telecom list info information data
    details value string text field column col attribute tag header meta metadata dicom dcm hdr src raw orig
    original file ip home work office private privat business emergency mobile status code codes national social
    security health medical clinical tax card civil trial electronico electronica electronic elektronische referente
    approx approximate estimated mean min max rounded binned
    """
)
_NAME_MORE = _words(
    """
    full complete completo completa first last middle given family maiden legal preferred birth other second primero
    segundo primer propio pila real nick prefix suffix of the de del la el der des id no title
    """
)
_PUBLISHED = _words(
    """
    publication published publish pub epub print release released download downloaded access accessed upload
    uploaded update updated modified modification licence license copyright version article journal citation
    retrieved veroffentlichung publicacion acceso edition embargo revision
    """
)
_PLACED = _words("image position orientation patient pt code sequence gantry relationship frame dicom tag slice")
_PHRASES = tuple(
    tuple(phrase.split())
    for phrase in (
        "trial subject", "geb dat", "geb am", "no ss", "num ss", "numero ss", "obra social", "unit no", "ref doc",
        "ordering provider", "referring provider", "care provider", "referring md", "acc num", "acc no",
        "historia clinica", "historial clinico", "historial medico", "numero historia", "no historia", "num historia",
        "medical record", "health record", "hospital record", "record number", "record no", "chart number",
        "chart no", "unit number", "hospital number", "social security", "seguridad social", "national id",
        "national identity", "identity number", "identity card", "id card", "tax id", "tarjeta sanitaria",
        "vital status", "offset days", "fec nac", "f nac", "seg social", "estado civil", "driver licence",
        "driver license", "next kin", "license plate", "health card", "health number", "military rank",
        "branch service",
    )
)  # fmt: skip
_EXACT = _words("name names nombre nombres namen time zeit tod exitus")
_TIMES = _words(
    """
    study series acquisition content exam examination scan procedure instance creation admission discharge visit
    birth death performed scheduled untersuchung aufnahme estudio examen adquisicion arrival collection verification
    start end
    """
)
_KEYWORDS = _words(
    """
    namesofintendedrecipientsofresults orderenteredby documentauthortrial currentobservertrial verbalsourcetrial
    roiinterpreter interpretationrecorder interpretationtranscriber interpretationauthor
    physicianapprovinginterpretation distributionname humanperformername humanperformersname overlaytime curvetime
    studyupdatedatetime secondaryreviewtime timeofgaincalibration procedurelastmodifieddate calibrationtime
    gpstimestamp interventiondrugstoptime interventiondrugstarttime timeofsecondarycapture contrastbolusstarttime
    contrastbolusstoptime radiopharmaceuticalstarttime radiopharmaceuticalstoptime timeoflastcalibration
    timeoflastdetectorcalibration modifiedimagedate modifiedimagetime studyverifiedtime studyreadtime
    scheduledstudystoptime studycompletiontime admittingtime issuetimeofimagingservicerequest
    scheduledprocedurestepmodificationdatetime findingsgrouprecordingtimetrial
    timeofdocumentcreationorverbaltransactiontrial observationtimetrial presentationcreationtime
    attributemodificationdatetime structuresettime treatmentcontrolpointtime safepositionexittime
    safepositionreturntime treatmenttime rtplantime reviewtime intendedfractionstarttime interpretationrecordedtime
    interpretationtranscriptiontime interpretationapprovaltime routesegmentstarttime routesegmentendtime
    alarmdecisiontime ooiownercreationtime hl7documenteffectivetime medicalalerts allergies countryofresidence
    regionofresidence smokingstatus pregnancystatus breedregistrationnumber responsibleorganization
    """
)
"""DICOM keywords of persons and clock times that the rules do not cover."""
_STEM = re.compile(
    r"^(?:patient|pacient|versichert|versicherungs|krankenkass|krankenvers|krankenhaus|geburts(?:dat|tag|ort|name|jahr|land|zeit)|nachname"
    r"|fecha|sterbe|vorname|familienname|apellid|nacimient|seguridadsocial|historiaclinica|arzt(?:name|in|nr)|aerzt)"
    r"|(?:patient(?:en|s)?|paciente|arzt|klinik|krankenhaus|versicherten)(?:name|id|nr|nummer|nombre)$"
    r"|datum$|arztes$"
)
_NOT_STEM = re.compile(
    r"^patient(?:position|orientation)$|^(?:veroffentlichung|publikation|zugriff|erschein|druck)\w*datum$"
)
_RUN_WORDS = frozenset(
    word
    for word in _ALWAYS
    | _OFTEN
    | _HEADS
    | _VISITS
    | _OBJECTS
    | _NEEDS_HEAD
    | _words("full first last middle given family maiden of de del referring performing attending time zeit")
    if len(word) > 2
) - _words("acc chi ins sub phys subj dra md centro nie ward age sex race tel city rut kin") | _words(
    "pt id no nr of de dr"
)
_VOCABULARY = (
    _ALWAYS | _OFTEN | _HEADS | _VISITS | _OBJECTS | _NEEDS_HEAD | _MORE | _NAME_MORE | _PUBLISHED | _EXACT | _TIMES
)
_TAG = re.compile(r"^\W*(?:0x)?([0-9a-f]{4})(?:(?P<split>\W{1,3}|_)(?:0x)?)?([0-9a-f]{4})(?![0-9a-z])", re.IGNORECASE)


@lru_cache(maxsize=4096)
def is_about_person(name: str) -> bool:
    """True if a column, label or key of this name is about a person: who it is, where, when and by whom it was
    examined.
    """
    name = unicodedata.normalize("NFKC", name[:_NAME_CHARS])
    tag = _keyword_of_tag(name)
    if tag is not None:
        return tag == "" or is_about_person(tag)
    return _about_person(_split(name)) or re.sub(r"[\W_]|\(s\)", "", name).lower() in _KEYWORDS


def without_people(labels: Mapping[str, V]) -> tuple[dict[str, V], tuple[str, ...]]:
    """The labels that are not about a person, and the names of those that are."""
    left = tuple(name for name in labels if is_about_person(name))
    return {name: value for name, value in labels.items() if name not in left}, left


def _about_person(words: list[str]) -> bool:
    if not words:
        return False
    found = frozenset(words)
    if found & {"position", "orientation"} and found <= _PLACED:
        return False
    if found & _ALWAYS or any(_follows(phrase, words) for phrase in _PHRASES):
        return True
    if any(_STEM.search(word) and not _NOT_STEM.search(word) for word in words):
        return True
    if len(words) == 1:
        return words[0] in _EXACT or words[0] in _OFTEN
    if found & {"name", "nombre", "namen"} and found - {"name", "nombre", "namen"} <= _NAME_MORE:
        return True
    if found & {"date", "datum", "fecha", "datetime", "timestamp", "uhrzeit", "hora"}:
        return not found & _PUBLISHED
    if words[:2] == ["number", "of"]:
        return False
    if found & {"age", "edad", "alter"} and found & {"at", "bei", "al"}:
        return True
    if found & {"time", "zeit"} and found & _TIMES and found <= _MORE | _OFTEN | _TIMES | {"time", "zeit"}:
        return True
    if found & _VISITS and found & _IDS and found <= _VISITS | _IDS | _MORE | _OBJECTS and found & _IDS != {"code"}:
        return True
    if "uid" in found and "class" not in found and found & _OBJECTS and found <= _OBJECTS | _HEADS | _MORE:
        return True
    if found & _NEEDS_HEAD and found & _HEADS and found <= _NEEDS_HEAD | _HEADS | _MORE:
        return True
    return bool(found & _OFTEN) and found <= _OFTEN | _HEADS | _MORE | _NEEDS_HEAD


def _follows(phrase: tuple[str, ...], words: list[str]) -> bool:
    """True if the words of the phrase come one after the other, with only small words between them."""
    place = 0
    for word in words:
        if word == phrase[place]:
            place += 1
            if place == len(phrase):
                return True
        elif place and word not in _SMALL:
            place = 1 if word == phrase[0] else 0
    return False


_SMALL = _words("the of de del la el der des s")


def _split(name: str) -> list[str]:
    """The words of a name in lower case: without accents, plurals and digits, run-together ones taken apart."""
    text = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = re.sub(r"(?<=[A-Za-z])IDs(?![a-z])", "Ids", text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    plain = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?:['’´`]s(?![a-z])|\(s\))", "", text.lower()))
    return [word for each in _spelled(plain) for word in _known(each)]


def _spelled(words: list[str]) -> list[str]:
    """Returns the words; single letters (`D.O.B.`) are joined."""
    found: list[str] = []
    letters = ""
    for word in words:
        if len(word) == 1:
            letters += word
            continue
        found += [letters] if letters else []
        letters = ""
        found.append(word)
    return found + ([letters] if letters else [])


def _known(word: str) -> list[str]:
    single = _single(word)
    if single is not None:
        return [single]
    return _taken_apart(word) or [word]


def _single(word: str) -> str | None:
    if word in _VOCABULARY:
        return word
    for ending, least in (("s", 3), ("es", 5), ("n", 4), ("en", 4), ("in", 4), ("innen", 4)):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= least and stem in _VOCABULARY:
            return stem
    return None


def _taken_apart(word: str) -> list[str]:
    """The words that a run-together one is made of; empty unless it is made of known ones as a whole."""
    if not 4 <= len(word) <= _RUN_CHARS:
        return []
    ways: list[list[str] | None] = [None] * (len(word) + 1)
    ways[0] = []
    for end in range(2, len(word) + 1):
        for start in range(max(0, end - 20), end - 1):
            before = ways[start]
            if before is None:
                continue
            part = word[start:end]
            known = part if part in _RUN_WORDS else _joined(part) if end < len(word) or start else None
            best = ways[end]
            if known and (best is None or len(before) + 1 < len(best)):
                ways[end] = [*before, known]
    found = ways[-1]
    return found if found and len(found) > 1 else []


def _joined(part: str) -> str | None:
    """A word with the letters that German and plurals put behind it."""
    for ending in ("s", "en", "n", "es"):
        stem = part.removesuffix(ending)
        if stem != part and len(stem) >= 3 and stem in _RUN_WORDS:
            return stem
    return None


def _keyword_of_tag(name: str) -> str | None:
    """The DICOM keyword of a name that begins with a tag, "" for a tag that is not in the standard.

    None for other names.
    """
    found = _TAG.match(name)
    if not found:
        return None
    # Imported on first use: nearly no name is a tag, and the dictionary is large.
    from pydicom.datadict import keyword_for_tag

    keyword: str = keyword_for_tag(int(found[1] + found[3], 16))
    if keyword or found["split"]:
        # A group about the patient is about a person whatever its element is called.
        return "" if found[1] == "0010" else keyword
    return None
