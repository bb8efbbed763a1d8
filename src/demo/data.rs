//! The two files, carried inside the binary.

use anyhow::Context;
use flate2::read::GzDecoder;

use super::model::{FlightRow, WeatherRow, read_flights, read_weather};

static FLIGHTS: &[u8] = include_bytes!("../../data/nycflights13/flights-2013-01.csv.gz");
static WEATHER: &[u8] = include_bytes!("../../data/nycflights13/weather-2013-01.csv.gz");

/// The flights that left New York in January 2013, and the weather of every hour.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// In the file's order.
    pub flights: Vec<FlightRow>,
    /// In order of time.
    pub weather: Vec<WeatherRow>,
}

impl Dataset {
    /// Unpacks and reads both files.
    ///
    /// # Errors
    /// When the binary was built with damaged files.
    pub fn load() -> anyhow::Result<Self> {
        Ok(Self {
            flights: read_flights(GzDecoder::new(FLIGHTS)).context("the flights inside this binary")?,
            weather: read_weather(GzDecoder::new(WEATHER)).context("the weather inside this binary")?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_of_january_is_there() {
        let dataset = Dataset::load().unwrap();
        assert_eq!(dataset.flights.len(), 27_004);
        assert_eq!(dataset.weather.len(), 2_226);
    }
}
