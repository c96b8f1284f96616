"""Names of columns that are about a person are recognised by what they mean; names of other things are not."""

import pytest
from pydicom.datadict import DicomDictionary

from mirage_core.people import is_about_person, without_people

ENGLISH = [
    "Patient Name", "patient_name", "PatientName", "PATIENTNAME", "patientname", "patient.name", "Patient's Name",
    "pt_name", "ptName", "patient_name_full", "dicom_PatientName", "Patient Name (full)", "meta/patient-id",
    "PatientIDs", "id_patient", "name", "Names", "full_name", "First Name", "last_name", "LastName", "surname",
    "initials", "MRN", "mrn_no", "M.R.N.", "Medical Record Number", "record_number", "DOB", "D.O.B.", "patient_dob",
    "BirthDate", "date of birth", "dateofbirth", "SSN", "social security number", "NHS number", "NHSNumber", "nhsno",
    "address", "Street", "zip code", "phone", "E-Mail", "email address", "insurance_provider", "health card number",
    "Referring Physician", "attending physician", "doctor", "Dr.", "radiologist", "operator", "technicians",
    "Hospital", "hospital_name", "hospital no.", "Institution Address", "clinic", "ward", "department",
    "Accession No.", "study_id", "Study Date", "studydate", "exam time", "scan_date", "date", "visit_id",
    "encounter_id", "subject_id", "participant", "sex", "Gender", "age", "age_years", "Age (years)",
    "age_at_diagnosis", "age_approx", "male", "CHI number", "Ref. Phys.", "ordering provider", "subj_id", "yob",
    "unit no.", "ethnicity", "occupation", "survival", "offset_days", "serial number", "SOPInstanceUID",
    "series_instance_uid", "station_name", "mother's name", "user_name", "passport", "name_2", "country of birth",
]  # fmt: skip
SPANISH = [
    "nombre", "Nombre del paciente", "NOMBRE_PACIENTE", "Nombre y apellidos", "apellidos", "Primer apellido",
    "paciente", "fecha de nacimiento", "FechaNacimiento", "fechanacimiento", "fecha_nac", "lugar de nacimiento",
    "Historia Clínica", "nº de historia clínica", "NHC", "N.H.C.", "médico", "médico solicitante",
    "Hospital de origen", "número de póliza", "seguro", "teléfono", "dirección", "código postal",
    "correo electrónico", "DNI", "número de seguridad social", "sexo", "edad", "fecha_estudio", "expediente",
]  # fmt: skip
GERMAN = [
    "Nachname", "Vorname", "Vor- und Nachname", "Name, Vorname", "Name des Patienten", "Patientenname",
    "Patientennummer", "Pat.-Nr.", "Patienten-ID", "Geburtsdatum", "Geb.-Datum", "Geburtstag", "Versichertennummer",
    "Versicherten-Nr", "Krankenkasse", "Arzt", "Ärztin", "Aerztin", "Überweisender Arzt", "Name des Arztes",
    "Hausarzt", "Krankenhaus", "Krankenhausname", "Klinik", "Anschrift", "Straße", "PLZ", "Wohnort", "Telefonnummer",
    "Geschlecht", "Alter", "Untersuchungsdatum", "Aufnahmedatum", "Fallnummer", "Aktenzeichen", "Sterbedatum",
]  # fmt: skip
TAGS = [
    "(0010,0010)", "0010,0020", "00100030", "0x00100010", "(0008,0050)", "(0008,0020) Study Date", "(0008|0090)",
    "(0009,0010)",
]  # fmt: skip
OTHERS = [
    "file_name", "filename", "structure_name", "name of a structure", "body part name", "series name", "source name",
    "display_name", "class_name", "label_name", "organ_name", "author", "authors", "attribution", "credit", "title",
    "caption", "description", "report", "id", "image_id", "uid", "figure_id", "case_id", "nodule_id", "series",
    "slice", "split", "study", "view", "image type", "protocol", "orientation", "annotation", "contrast",
    "laterality", "modality", "plane", "body_part", "finding", "location", "diagnosis", "history",
    "clinical history", "ImageOrientationPatient", "ImagePositionPatient", "PatientPosition", "Patient Orientation",
    "SeriesDescription", "SeriesNumber", "InstanceNumber", "SOPClassUID", "WindowCenter", "center_x", "centroid",
    "RepetitionTime", "EchoTime", "exposure time", "time point", "bone_age", "gestational age", "publication_date",
    "date published", "Veröffentlichungsdatum", "license_version", "tumor site", "hospital acquired pneumonia",
    "lymph node station", "radiologist_report", "device type", "page", "image", "stage", "dosage", "birthmark",
    "childbirth", "pT stage", "number of readers", "pmcid", "cuis", "url", "doi", "width", "height", "KVP", "Rows",
    "topic", "(0008,0060)", "(0028,0010)", "20200101", "",
]  # fmt: skip


@pytest.mark.parametrize("name", ENGLISH + SPANISH + GERMAN + TAGS)
def test_a_name_about_a_person_is_recognised(name: str) -> None:
    assert is_about_person(name)


@pytest.mark.parametrize("name", ENGLISH + SPANISH + GERMAN)
def test_case_separators_and_padding_change_nothing(name: str) -> None:
    assert is_about_person(name.upper() if not any(char.islower() for char in name) else name.lower().replace(" ", "_"))
    assert is_about_person(f"  {name} ")
    assert is_about_person(f"{name}\r\n")


@pytest.mark.parametrize("name", OTHERS)
def test_the_name_of_another_thing_is_not(name: str) -> None:
    assert not is_about_person(name)


def test_dicom_keywords_of_persons_and_dates_are_recognised() -> None:
    """By value representation: PN is a person's name, DA, DT and TM say when."""
    # Versions of templates, exposures and pulses that are written as dates.
    other = {
        "ContextGroupVersion", "ContextGroupLocalVersion", "TemplateVersion", "TemplateLocalVersion", "FunctionalSyncPulse",
        "SourceStrengthReferenceTime", "SelectorPNValue", "SelectorDAValue", "SelectorDTValue", "SelectorTMValue",
    }  # fmt: skip
    keywords = {each[4] for each in DicomDictionary.values() if each[0] in ("PN", "DA", "DT", "TM") and each[4]}
    assert len(keywords) > 100
    assert {keyword for keyword in keywords if not is_about_person(keyword)} == other


def test_dicom_keywords_of_the_patient_are_recognised_except_those_of_animals_and_positions() -> None:
    missed = {
        each[4]
        for tag, each in DicomDictionary.items()
        if tag >> 16 == 0x0010 and each[4] and not is_about_person(each[4])
    }
    assert all(
        any(
            word in keyword
            for word in ("Strain", "Genetic", "Breed", "QualityControl", "Measured", "Body", "Position", "Anatomical")
        )
        for keyword in missed
    )


def test_labels_are_parted_by_their_names_alone() -> None:
    kept, left = without_people({"Plane": "axial", "Patient Name": "Doe", "finding": "Patient Name"})
    assert kept == {"Plane": "axial", "finding": "Patient Name"}
    assert left == ("Patient Name",)


def test_a_long_name_costs_little() -> None:
    assert not is_about_person("x" * 1_000_000)
    assert is_about_person("patient " * 100_000)
